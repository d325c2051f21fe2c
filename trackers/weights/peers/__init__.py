"""Readers of the reference implementations' checkpoints, a module each, named by the models it reads (`Model.peer`).

A module has `source(state, model) -> layout.Source`, how the tensors of `model` are found in a checkpoint, and
`conventions(model) -> dict`, what a user of the converted file has to know: {"input", "batch_norm_epsilon"} and, where
they were not compared with a real checkpoint, "names". `TENSORFLOW = True` says that TensorFlow wrote the checkpoints.
"""

"""Readers and writers of the reference implementations' checkpoints, a module each, named by models (`Model.peer`).

A module has `source(state, model) -> layout.Source`, how the tensors of `model` are found in a checkpoint and written
to one, and `conventions(model) -> dict`, what a user of the converted file has to know: {"project", the reference
implementation's name in `eval.convert --to`, "input", "batch_norm_epsilon"} and, where they were not compared with a
real checkpoint, "names". `TENSORFLOW = True` says that TensorFlow wrote the checkpoints.
"""

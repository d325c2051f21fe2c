"""How time, operations and the machine's peak are measured."""

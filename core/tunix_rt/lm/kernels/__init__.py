"""CPU kernels of the engine: machine code made when it is first needed, called by XLA on its own threads."""

"""The commands of the command line, a function each; :mod:`fdtrain.cli` names them."""

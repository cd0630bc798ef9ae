"""Changes of inputs that know how the inputs are built."""

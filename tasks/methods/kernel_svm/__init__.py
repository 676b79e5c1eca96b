"""Support vector machines with kernels: the exact two-class solver, one-vs-one, and approximate feature maps."""

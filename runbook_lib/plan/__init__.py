"""Will it fit, in which shapes: arithmetic over a profile, a model and a device. Pure, no I/O but its own data."""

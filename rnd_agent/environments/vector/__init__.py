"""Many environments at once, in worker processes over shared memory."""

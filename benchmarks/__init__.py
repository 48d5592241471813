"""Side-by-side measurements, run by `make bench`; their last results stand in `results/`."""

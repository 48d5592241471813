"""Side-by-side measurements, run by `make bench`. Their last results are in `results/`."""

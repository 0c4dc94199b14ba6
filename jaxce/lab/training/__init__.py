"""Training: `make_train` gives pure functions, `run` calls them and alone touches clock, files and terminal."""

"""`python -m benchmarks`: jaxce beside its peers, in one process and in turns, with ratios and limits."""

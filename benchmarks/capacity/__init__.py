"""A simulation of the pipeline, fitted to measured costs: how many processes and cores a load needs."""

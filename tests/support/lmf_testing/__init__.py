"""What tests and benchmarks share and users do not need."""

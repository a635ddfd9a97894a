"""What `lmf doctor` looks at: one check a function, and none that can end the others."""

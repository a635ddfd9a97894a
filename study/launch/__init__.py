"""Starting workers: on this machine, by SLURM, on Kubernetes, or in this process."""

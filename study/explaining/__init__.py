"""Where trained models look in test images (Grad-CAM): what is explained, drawn and kept."""

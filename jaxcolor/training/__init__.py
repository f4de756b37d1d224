"""Training in three stages: full image, instance, fusion."""

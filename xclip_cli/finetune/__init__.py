"""Fine-tuning: labelled clips and a model in, a better model and a report out."""

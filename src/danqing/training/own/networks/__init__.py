"""Networks that are trained beside a model's weights: LoRA, DoRA, LoHa, LoKr; how they act and how they are written."""

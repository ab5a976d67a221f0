"""A Llama-type language model on JAX: weights, tokenizer, training pieces and generation."""

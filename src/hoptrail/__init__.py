"""Multi-hop reasoning over whichever of Hugging Face and Ollama is up."""

"""Between documents and token ids: vocabulary, grammar, text, image and video tokenizers."""

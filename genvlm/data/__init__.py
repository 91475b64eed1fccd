"""Pictures, captions, documents: emoji, composed scenes, stories, a user's own files."""

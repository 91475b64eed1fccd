"""Pictures, captions and documents: the emoji pack, composed scenes, stories, a user's own files."""

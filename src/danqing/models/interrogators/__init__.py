"""Interrogators besides the built-in one: WD tagger, DeepDanbooru, BLIP with CLIP. Their files are the user's."""

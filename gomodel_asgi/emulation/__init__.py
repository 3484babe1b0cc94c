"""What an upstream lacks: stored responses, conversations, background work, compaction, token counts."""

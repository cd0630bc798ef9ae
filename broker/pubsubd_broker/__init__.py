"""The broker daemon: a pure core under an asyncio shell."""

"""The node's own stream, replicas of others, publishers' answers, the cursor registry, catch-up."""

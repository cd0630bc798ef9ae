"""The journal on disk: its folder, its writer, snapshots, and the witnesses of lives."""

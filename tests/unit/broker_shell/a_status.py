"""A status as a broker in a cluster of three would give it."""

from __future__ import annotations

from typing import Any


def a_status() -> dict[str, Any]:
    return {
        "node": "a",
        "epoch": "00" * 16,
        "version": "0.1.0",
        "protocol_version": 1,
        "uptime_s": 3723.5,
        "ready": True,
        "not_ready": [],
        "addresses": {
            "socket": "/run/pubsubd/pubsubd.sock",
            "listen": "127.0.0.1:7420",
            "http": None,
        },
        "ring": {
            "messages": 10,
            "capacity_messages": 100,
            "bytes": 1000,
            "capacity_bytes": 65536,
            "oldest_offset": 5,
            "next_offset": 15,
        },
        "consumers": [
            {"consumer": "b", "connected": True, "cursor": 15, "lag_messages": 0, "away_s": None},
            {"consumer": "c", "connected": False, "cursor": 7, "lag_messages": 8, "away_s": 90.0},
        ],
        "peers": [
            {
                "address": "10.0.0.2:7420",
                "node": "b",
                "connected": True,
                "reached": True,
                "epoch": "11" * 16,
                "next_offset": 40,
                "lag_messages": 2,
                "reconnects": 3,
                "replica": {"messages": 38, "bytes": 380, "oldest_offset": 0, "next_offset": 38},
                "error": None,
            },
            {
                "address": "10.0.0.3:7420",
                "node": None,
                "connected": False,
                "reached": False,
                "epoch": None,
                "next_offset": None,
                "lag_messages": None,
                "reconnects": 4,
                "replica": None,
                "error": "connection refused",
            },
        ],
        "sessions": [
            {
                "name": "projector",
                "patterns": ["orders.>"],
                "pattern_count": 1,
                "connected": True,
                "positions": {"a": ["00" * 16, 12]},
                "lag_messages": {"a": 3, "b": 1},
            },
            {
                "name": "away",
                "patterns": [">"],
                "pattern_count": 1,
                "connected": False,
                "positions": {},
                "lag_messages": {},
            },
        ],
        "connections": 5,
        "publishers": 3,
        "certificate_expires_s": 1_800_000_000,
        "counters": {
            "messages_published": 15,
            "bytes_published": 1500,
            "messages_received": {"b": 38},
            "bytes_received": {"b": 380},
            "messages_delivered": 53,
            "bytes_delivered": 1880,
            "paced_seconds": {"node-b": 0.25, "session": 0.0},
            "cursor_expired": {"peer": {"overwritten": 1}, "session": {"unseen": 2}},
            "cursors_removed": 4,
            "protocol_errors": {"frame_length": 5},
            "connections_refused": {"name_in_use": 6},
            "publishes_rejected": {"too_large": 7},
            "publishers_forgotten": 8,
            "accept_pauses": {"peers": 9},
            "http_refused": {"too_slow": 10},
        },
        "publish_seconds": {"buckets": [[0.001, 3], [0.01, 5]], "sum": 0.02, "count": 6},
        "journal_fsync_seconds": {"buckets": [[0.001, 1], [0.01, 4]], "sum": 0.03, "count": 4},
        "journal": {
            "fsync": "always",
            "segments": 3,
            "backlog_bytes": 4096,
            "durable_offset": 12,
            "failed": None,
        },
        "event_loop_lag_s": 0.0005,
        "tasks": 4,
    }

"""The floor: the same bytes over the same hops between the same processes, and nothing decided on the way.

    publisher process   for each message: its topic's number, its payload's length, the payload itself go into
                        columns; a batch of 128 KiB (a message counts 64 bytes more than its payload, as in the
                        SDK of pubsubd) is a header and the joined columns, written to a Unix socket
    relay a             copies what it receives, once, and writes it to a TCP connection
    relay b             the same, to the Unix socket of each reader
    reader process      cuts batches out of its buffer, copies the payloads of each once, and cuts them into one
                        bytes object a message; the topics' names are split

It has neither offsets nor a ring, cursors, receipts, acknowledgements or checks. All four run on
uvloop with `BufferedProtocol`. Dicts are packed and unpacked by msgpack, as pubsubd's SDK does it.
"""

"""The benchmark: pubsubd with two brokers in the path, beside its alternatives for a Python team.

`python -m bench` runs all of it, `python -m bench --quick` a part in under a minute. A contestant is measured
in processes of its own: a publisher, a reader, and its servers, all started and ended here, on loopback.

    workloads      what is measured            contestants   the systems, and their modes
    servers/       how each one is started     clients/      how each one publishes and reads
    floor/         the same bytes, no logic    worker        a publisher's or a reader's process
    builds         compiled, interpreted       stage         the processes of one round
    measure        a round on it -> figures
    rounds         all rounds, interleaved     results       what is kept in results/*.json
    compare        with the last kept result   report        tables, and plots as SVG
    charts         what each plot shows        plots          draws it, by matplotlib
    witness        the cost of the life file for a publish
    shares         the steps of a message from process to process, by clocks at their sockets (probe)
"""

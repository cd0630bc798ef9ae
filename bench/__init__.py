"""The benchmark: pubsubd with two brokers in the path, beside what a Python team would pick instead.

`python -m bench` runs all of it, `python -m bench --quick` a part in under a minute. A contestant is measured
in processes of its own: a publisher, a reader, and its servers, all started and ended here, on loopback.

    workloads      what is measured            contestants   who, and in which mode
    servers/       how each one is started     clients/      how each one publishes and reads
    floor/         the same bytes, no logic    worker        a publisher's or a reader's process
    stage          the processes of one round  measure       one round on that stage -> figures
    rounds         all rounds, interleaved     results       what is kept in results/*.json
    compare        with the last kept result   report        tables, and plots as SVG
    charts         what each plot shows        plots         draws that, by matplotlib
    witness        a part of one process: what noting how far was accepted adds to a publish
"""

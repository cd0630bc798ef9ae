"""Trust between brokers: TLS, the cluster's secret."""

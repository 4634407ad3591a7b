"""Building blocks of the daemons: options, services, privileges, logs, sd_notify, TLS."""

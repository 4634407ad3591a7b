"""What a daemon needs beside its options and services: privileges, logs, sd_notify."""

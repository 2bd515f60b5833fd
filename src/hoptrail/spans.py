"""Spans: a finished run as OpenTelemetry tells it."""

"""Requests a snapshot of each conversation of an organization: a job that can be interrupted and cancelled."""

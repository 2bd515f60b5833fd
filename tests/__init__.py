"""The checks of Hoptrail, and the loopback providers they run against."""

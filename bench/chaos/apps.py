from django.apps import AppConfig


class ChaosConfig(AppConfig):
    """The tasks of the chaos driver, and the clock of the worker that loads them."""

    name = "bench.chaos"
    label = "chaos"

    def ready(self) -> None:
        from bench.chaos import clock

        clock.install()

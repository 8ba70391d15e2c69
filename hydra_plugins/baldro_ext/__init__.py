"""Found by every Hydra application in the environment; acts only inside open-unlearning."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from baldro_ext.open_unlearning import registration


class BalDROSearchPath(SearchPathPlugin):
    """Adds the extension's trainers and configurations to open-unlearning's."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the configurations, if the running program is open-unlearning."""
        if registration.open_unlearning_is_loaded():
            registration.add_to(search_path)

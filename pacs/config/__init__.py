"""
The configuration: one YAML file, the environment, and the defaults, as one frozen object.
"""

from pacs.config.errors import ConfigurationError, Fault
from pacs.config.model import Configuration
from pacs.config.reader import Loaded, is_there, load_configuration

__all__ = ["Configuration", "ConfigurationError", "Fault", "Loaded", "is_there", "load_configuration"]

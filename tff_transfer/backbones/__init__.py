"""What turns images into features: pretrained networks and how to load them."""

from tff_transfer.backbones.backbone import Backbone
from tff_transfer.backbones.loading import load

__all__ = ['Backbone', 'load']

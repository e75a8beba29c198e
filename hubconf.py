"""Entry points of ``torch.hub.load(<this repository>, name, source="local")``: every registered variant."""

from video_ats.models.hub import HUB_FUNCTIONS

dependencies = ["torch", "timm", "einops", "pytorchvideo", "safetensors"]

globals().update(HUB_FUNCTIONS)

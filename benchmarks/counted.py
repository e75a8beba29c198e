"""Count what torch dispatches."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class OperationCounter(TorchDispatchMode):
    """Counts the operations that torch dispatches, without those that only make views."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += all(made.alias_info is None or made.alias_info.is_write for made in func._schema.returns)
        return func(*args, **(kwargs or {}))

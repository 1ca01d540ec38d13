"""Where a model's weights go and in which type, in the words of transformers and accelerate; checked before loading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch

from audit_lit.errors import TargetError, first_line

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
"""The types that models compute in. Attention is in float32, whose range the mask of float64 exceeds."""
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
BITS = ("8bit", "4bit")
OFFLOADED = ("cpu", "disk")

Dtype = torch.dtype | str | None
DeviceMap = str | Mapping[str, Any] | None
MaxMemory = Mapping[int | str, int | str] | None
Quantization = Literal["8bit", "4bit"] | Any


@dataclass(frozen=True)
class LoadOptions:
    """How ``load_target`` loads a model (see there); by default on the CPU, in float32.

    Raises:
        TargetError: If options contradict each other, or this machine or its packages lack what they need.
    """

    device: str | torch.device | None = None
    dtype: Dtype = None
    device_map: DeviceMap = None
    n_devices: int | None = None
    max_memory: MaxMemory = None
    quantization: Quantization = None

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is fetched or loaded."""
        self._check_placement()
        self._check_dtype()
        self._check_device_map()
        if self.max_memory is not None:
            _check_max_memory(self.max_memory)
        _check_devices(self.n_devices)
        if self.device is not None:
            if not isinstance(self.device, str | torch.device):
                raise TargetError(
                    f"got device={self.device!r:.80}; expected the name of one, such as cpu or cuda, or a torch.device."
                )
            _check_device(str(self.device))
        if self.quantization is not None:
            _check_quantization(self.quantization)

    @property
    def single_device(self) -> str | None:
        """The device of the whole model; None if it is split."""
        return None if self.device_map is not None or self.n_devices is not None else str(self.device or "cpu")

    def arguments(self, *, quantised: bool = False) -> dict[str, Any]:
        """Return the arguments of ``from_pretrained``; ``quantised`` is for files that hold quantised weights.

        Quantised weights are placed while they are loaded, and cannot be moved afterwards.
        """
        arguments: dict[str, Any] = {"dtype": self._dtype()}
        if self.quantization is not None:
            arguments["quantization_config"] = _quantization_config(self.quantization)
        if self.n_devices is not None:
            arguments |= {"device_map": "balanced", "max_memory": self.max_memory or _free_memory(self.n_devices)}
        elif self.device_map is not None:
            arguments |= {"device_map": self.device_map, "max_memory": self.max_memory}
        elif quantised or self.quantization is not None:
            arguments["device_map"] = {"": self.single_device}
        return arguments

    def _dtype(self) -> Any:
        if self.dtype is None:
            return torch.float32 if self.quantization is None else torch.bfloat16
        return DTYPES.get(self.dtype, self.dtype) if isinstance(self.dtype, str) else self.dtype

    def _check_placement(self) -> None:
        placements = {"device": self.device, "device_map": self.device_map, "n_devices": self.n_devices}
        named = [name for name, value in placements.items() if value is not None]
        if len(named) > 1:
            raise TargetError(
                f"got {' and '.join(named)}, which each say where the weights go; expected one of them. Name device "
                "for one device, n_devices to split evenly over GPUs, or device_map for any other split."
            )
        if self.max_memory is not None and self.single_device is not None:
            raise TargetError(
                "got max_memory without device_map or n_devices, so that nothing would be limited; expected one of "
                "them beside it, such as device_map='auto'."
            )

    def _check_dtype(self) -> None:
        is_name = isinstance(self.dtype, str) and self.dtype in ("auto", *DTYPES)
        is_dtype = isinstance(self.dtype, torch.dtype) and self.dtype in DTYPES.values()
        if self.dtype is not None and not is_name and not is_dtype:
            raise TargetError(
                f"got dtype={self.dtype!r:.80}; expected auto, {', '.join(DTYPES)}, or such a torch dtype. For fewer "
                "bits, use quantization."
            )

    def _check_device_map(self) -> None:
        if self.device_map is None or (isinstance(self.device_map, str) and self.device_map in DEVICE_MAPS):
            return
        is_named = isinstance(self.device_map, Mapping) and all(isinstance(name, str) for name in self.device_map)
        if not isinstance(self.device_map, Mapping) or not self.device_map or not is_named:
            raise TargetError(
                f"got device_map={self.device_map!r:.80}; expected {', '.join(DEVICE_MAPS)}, or a mapping of modules "
                "to devices. For a single device, use device."
            )
        _check_places(self.device_map)


def _check_places(device_map: Mapping[str, Any]) -> None:
    """Raise unless all devices of a mapping are there, and a model runs on them together."""
    places = {str(place) for place in device_map.values()}
    if places & set(OFFLOADED) and places - set(OFFLOADED):
        raise TargetError(
            f"device_map has {', '.join(sorted(places))}, but TransformerLens runs no model that is partly on GPUs and "
            "partly offloaded; expected GPUs alone, or cpu and disk."
        )
    for place in sorted(places - {"disk"}):
        _check_device(f"cuda:{place}" if place.isdecimal() else place)


def _check_max_memory(max_memory: Mapping[int | str, int | str]) -> None:
    from accelerate.utils import convert_file_size_to_int

    try:
        for device, most in max_memory.items():
            is_gpu = type(device) is int and device >= 0
            if not (is_gpu or device in (*OFFLOADED, "mps")) or convert_file_size_to_int(most) <= 0:
                raise ValueError
    except (AttributeError, TypeError, ValueError) as err:
        raise TargetError(
            f"got max_memory={max_memory!r:.80}; expected numbers of GPUs, or cpu, each with its most bytes, such as "
            "{0: '20GiB', 'cpu': '60GiB'}."
        ) from err


def _check_device(device: str) -> None:
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("meta tensors hold no values")
        torch.empty(1, device=device)
    except (AssertionError, RuntimeError, NotImplementedError, TypeError, ValueError, OverflowError) as err:
        reason = first_line(err)
        raise TargetError(
            f"the model cannot be put on device {device!r:.80}: {reason}; expected one of this machine. Try "
            "another, such as cpu."
        ) from err


def _check_devices(n_devices: int | None) -> None:
    n_here = torch.cuda.device_count()
    if n_devices is not None and (type(n_devices) is not int or not 2 <= n_devices <= n_here):
        raise TargetError(
            f"got n_devices={n_devices!r:.80}; expected 2 or more, and at most the number of GPUs that torch sees "
            f"here, {n_here}. For one GPU, use device='cuda'; for none, device='cpu'."
        )


def _check_quantization(quantization: Quantization) -> None:
    if isinstance(quantization, str) and quantization not in BITS:
        raise TargetError(
            f"got quantization={quantization!r}; expected {' or '.join(BITS)}, or a configuration such as "
            "transformers.BitsAndBytesConfig(load_in_4bit=True)."
        )
    if not isinstance(quantization, str) and not hasattr(quantization, "quant_method"):
        raise TargetError(
            f"got {quantization!r:.80} for quantization; expected {' or '.join(BITS)}, or a configuration of "
            "transformers, such as BitsAndBytesConfig."
        )
    if not isinstance(quantization, str):
        return
    if find_spec("bitsandbytes") is None:
        raise TargetError(
            f"quantization={quantization!r} needs bitsandbytes, which is not installed: pip install "
            "'audit-lit[quantize]'. Or load the model in bfloat16."
        )
    from transformers.integrations import validate_bnb_backend_availability

    try:
        validate_bnb_backend_availability(raise_exception=True)
    except Exception as err:  # bitsandbytes raises errors of any kind about libraries that it cannot load
        reason = first_line(err)
        raise TargetError(
            f"quantization={quantization!r} does not run here: {reason}. Use a GPU, or load the model in bfloat16."
        ) from err


def _quantization_config(quantization: Quantization) -> Any:
    """Return a configuration; in 4 bits, that of QLoRA (arXiv 2305.14314): NF4, with products in bfloat16."""
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    if quantization == "4bit":
        nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True, **nf4)
    return quantization


def _free_memory(n_devices: int) -> dict[int, int]:
    """Return the free bytes of the first GPUs, so that the model is split over these alone."""
    from accelerate.utils import get_max_memory

    free = get_max_memory()
    return {index: free[index] for index in range(n_devices)}

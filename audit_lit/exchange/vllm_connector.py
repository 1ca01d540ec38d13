"""vLLM (0.18 or newer): the files of its ``extract_hidden_states`` method and ExampleHiddenStatesConnector.

A file holds ``hidden_states`` [position, layer, d_model] and ``token_ids``. The models note the residuals before block
``id`` runs (``if idx in self.aux_hidden_state_layers``, in vLLM's ``model_executor/models``), in the order of the
blocks: id L is the output of block L - 1, id 0 the embedding, and the number of blocks the last block's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audit_lit.errors import ActivationError
from audit_lit.exchange.runs import Run
from audit_lit.files.reading import require_regular

OFFSET = -1
"""What is added to an id of vLLM to number the block whose output it is."""


def from_vllm_connector(path: str | Path, layer_ids: Sequence[int], *, offset: int = OFFSET) -> Run:
    """Return a run that vLLM's connector wrote.

    Args:
        path: The safetensors file that ``kv_transfer_params["hidden_states_path"]`` names. A compressed one (``.zst``)
            must be decompressed first.
        layer_ids: The list that ``eagle_aux_hidden_state_layer_ids`` was set to, in ascending order.
        offset: What makes an id the number of a block; -1 unless ``check_layers`` shows otherwise.

    Raises:
        ActivationError: If the file is of another kind or of other layers, or the order of the layers is not certain.
    """
    from safetensors import SafetensorError, safe_open

    if list(layer_ids) != sorted(layer_ids):
        raise ActivationError(
            f"got the layer ids {list(layer_ids)}; expected them in ascending order, in which vLLM's models note them, "
            "whatever the order of the list. Sort them here and in eagle_aux_hidden_state_layer_ids."
        )
    try:
        require_regular(Path(path))
        with safe_open(path, framework="pt") as file:
            hidden_states, token_ids = file.get_tensor("hidden_states"), file.get_tensor("token_ids")
    except (OSError, SafetensorError) as err:
        raise ActivationError(
            f"{path} is not a file of vLLM's hidden states ({err}); expected the tensors hidden_states and token_ids, "
            "as ExampleHiddenStatesConnector writes them. Fetch it again."
        ) from err
    if hidden_states.ndim != 3 or token_ids.ndim != 1:
        raise ActivationError(
            f"{path} holds hidden_states of shape {list(hidden_states.shape)} and token_ids of shape "
            f"{list(token_ids.shape)}; expected [position, layer, d_model] and [position]."
        )
    layers = tuple(layer_id + offset for layer_id in layer_ids)
    return Run(hidden_states.transpose(0, 1), layers, tuple(token_ids.tolist()))

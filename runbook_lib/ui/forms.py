"""Forms and buttons for somebody in front of the page; headless, the same values as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from runbook_lib.ui.kernel import interactive
from runbook_lib.ui.tables import Table, table

__all__ = ["Described", "approve_button", "form"]


class Described(Protocol):
    """What a form needs to know of a parameter (`runbook_lib.parameters.Parameter` has it)."""

    @property
    def name(self) -> str:
        """Its name in the parameters cell."""

    @property
    def type(self) -> str:
        """`str`, `int`, `float` or `bool`."""

    @property
    def default(self) -> Any:
        """Its value where nobody gives one."""

    @property
    def help(self) -> str:
        """One line on what it does."""

    @property
    def choices(self) -> Sequence[str]:
        """The only values it takes; empty where any is taken."""

    def problem(self, value: object) -> str:
        """Why a value can't be taken; empty when it can."""


def form(
    parameters: Sequence[Described],
    values: Mapping[str, Any],
    on_change: Callable[[str, Any], None] | None = None,
) -> Any:
    """A form of a page's parameters, as the last value of a cell.

    Headless, and outside a notebook, it is a table of the same values and no widget is made.

    Args:
        parameters: of the page.
        values: in force now, by name.
        on_change: called with a name and its new value, once the value can be taken.
    """
    if not interactive():
        return _as_table(parameters, values)
    from ipywidgets import VBox

    return VBox([_row(one, values.get(one.name, one.default), on_change) for one in parameters])


def approve_button(digest: str, on_approve: Callable[[], None]) -> None:
    """Show a button that approves the plan with this digest; it can be pressed once.

    Headless it shows nothing: an approval then comes as a parameter.
    """
    if not interactive():
        return
    from IPython.display import display
    from ipywidgets import Button, HBox, Label

    button = Button(
        description=f"Approve {digest}",
        button_style="warning",
        layout={"width": "auto"},
        tooltip="Approves the changes listed above, and no other plan",
    )
    button.add_class("runbook-approve")
    said = Label()

    def pressed(_: Any) -> None:
        button.disabled = True
        on_approve()
        said.value = "Approved: run this cell again to go on."

    button.on_click(pressed)
    display(HBox([button, said]))


def _as_table(parameters: Sequence[Described], values: Mapping[str, Any]) -> Table:
    rows = [
        [one.name, str(values.get(one.name, one.default)), str(one.default), one.help]
        for one in parameters
    ]
    return table(["parameter", "value", "default", "what it does"], rows)


def _row(parameter: Described, value: Any, on_change: Callable[[str, Any], None] | None) -> Any:
    """A field with its help beside it, which says what is wrong while a value can't be taken."""
    from ipywidgets import HBox, Label

    field = _field(parameter, value)
    field.add_class(f"runbook-{parameter.name}")
    said = Label(value=parameter.help)

    def changed(change: Mapping[str, Any]) -> None:
        problem = parameter.problem(change["new"])
        said.value = problem or parameter.help
        if not problem and on_change is not None:
            on_change(parameter.name, change["new"])

    field.observe(changed, names="value")
    return HBox([field, said])


def _field(parameter: Described, value: Any) -> Any:
    import ipywidgets as widgets

    common = {
        "description": parameter.name,
        "value": value,
        "style": {"description_width": "130px"},
        "layout": {"width": "360px"},
    }
    if parameter.choices:
        return widgets.Dropdown(options=list(parameter.choices), **common)
    # Texts and numbers report when Enter is pressed or the field is left, not at every key.
    if parameter.type == "bool":
        return widgets.Checkbox(**common, indent=True)
    kinds = {"int": widgets.IntText, "float": widgets.FloatText}
    return kinds.get(parameter.type, widgets.Text)(**common, continuous_update=False)

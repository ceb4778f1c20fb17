"""Actions in the words of a progress line: ``installing git, tmux``."""

from __future__ import annotations

from containarium.model import action as act

_PLAIN: dict[type[act.Action], str] = {
    act.DeleteInstance: "deleting the container",
    act.StartInstance: "starting the container",
    act.StopInstance: "stopping the container",
    act.RestartInstance: "restarting the container",
    act.AdoptInstance: "adopting the container",
    act.BackupInstance: "backing the container up",
    act.EnforceLimits: "enforcing the limits",
    act.SetUpUser: "setting up the user",
    act.WriteGuestKeys: "writing the keys",
    act.LockGuestRoot: "locking root's password",
    act.AwaitLogin: "waiting for SSH",
    act.EnsureAccount: "setting up the jump account",
    act.WriteAccountKeys: "writing the jump account's keys",
    act.LockAccount: "locking the jump account",
    act.DeleteAccount: "deleting the jump account",
}


def step(action: act.Action) -> str:
    """What is being done, in the present tense."""
    match action:
        case act.CreateInstance(image=image):
            return f"creating the container from {image}"
        case act.FetchInstance(source=source):
            return f"fetching the container from {source}"
        case act.InstallPackages(packages=packages):
            return f"installing {', '.join(packages)}"
        case act.EnableService(service=service):
            return f"enabling {service}"
        case act.UpdateInstance(changes=changes):
            fields = ", ".join(change.field for change in changes)
            return f"setting {fields}" if fields else "recording what was reached"
        case _:
            return _PLAIN.get(type(action), action.kind)

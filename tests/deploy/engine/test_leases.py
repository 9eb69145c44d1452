from deploy.engine.leases import Leases


def test_an_adapter_is_held_until_its_last_lease_is_released() -> None:
    leases = Leases()
    one, other = leases.take("a"), leases.take("a")
    one.release()
    assert leases.held("a")
    other.release()
    assert not leases.held("a")


def test_a_lease_is_released_once_however_often_it_is_said() -> None:
    leases = Leases()
    one, _other = leases.take("a"), leases.take("a")
    one.release()
    one.release()
    assert leases.held("a")

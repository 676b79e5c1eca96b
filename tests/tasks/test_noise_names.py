from __future__ import annotations

import pytest

from tasks import noise


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("Gausian", "expected a noise of Brightness, CaseFlip, .* received 'Gausian'; did you mean Gaussian"),
        ("Rain", "received 'Rain'$"),
    ],
)
def test_noise__unknown_name(name, error):
    with pytest.raises(AttributeError, match=error):
        getattr(noise, name)

"""The admin's sign-in form."""

from __future__ import annotations

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from scores.access import sign_ins


class SignInForm(AdminAuthenticationForm):
    """Logs also those whose password is right and who may not enter the admin: Django knows no failure there."""

    def confirm_login_allowed(self, user: User) -> None:
        try:
            super().confirm_login_allowed(user)
        except ValidationError:
            sign_ins.log_failure(credentials={"username": user.get_username()}, request=self.request)
            raise

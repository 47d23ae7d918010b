"""Serializers for the input of the HTTP API."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework import serializers

from scores.user_id import is_player_id

NOT_ALLOWED = "This username is not allowed."
DIGITS: dict[str, Any] = {"invalid": "Expected one to nine digits."}


class TextField(serializers.CharField):
    """A JSON string. DRF's own field would also accept a number."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class PageSerializer(serializers.Serializer[Any]):
    """Query parameters, which must consist of digits."""

    limit = serializers.RegexField(r"\A[0-9]{1,9}\Z", default="10", trim_whitespace=False, error_messages=DIGITS)
    offset = serializers.RegexField(r"\A[0-9]{1,9}\Z", default="0", trim_whitespace=False, error_messages=DIGITS)


class RegistrationSerializer(serializers.Serializer[Any]):
    username = TextField(max_length=150)
    password = TextField(max_length=1024, trim_whitespace=False)

    def validate_username(self, value: str) -> str:
        """Checks Django's rule for usernames and the rule for user ids, since the username becomes the user id."""
        model = get_user_model()
        value = model.normalize_username(value)
        try:
            for validator in model._meta.get_field("username").validators:
                validator(value)
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.messages, "invalid") from error
        if not is_player_id(value):
            raise serializers.ValidationError(NOT_ALLOWED, "invalid")
        return value

    def validate(self, attrs: dict[str, str]) -> dict[str, str]:
        try:
            validate_password(attrs["password"], get_user_model()(username=attrs["username"]))
        except DjangoValidationError as error:
            raise serializers.ValidationError({"password": error.messages}, "too_weak") from error
        return attrs


class RefreshSerializer(serializers.Serializer[Any]):
    refresh = TextField()

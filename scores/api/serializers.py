"""The shapes of the HTTP API's input."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from rest_framework import serializers
from rest_framework.exceptions import APIException

from scores.user_id import is_user_id

# What a client most likely meant as a number, by the type it came as.
KINDS: dict[type, str] = {bool: "is_boolean", float: "is_float", str: "is_text"}


class StrictIntegerField(serializers.Field[int, Any, int, Any]):
    """A JSON integer and nothing that could be taken for one: no `10.0`, `"10"` or `true`."""

    default_error_messages = {
        "required": "This field is required.",
        "null": "Expected a whole number.",
        "is_boolean": "Expected a whole number, not true or false.",
        "is_float": "Expected a whole number without a fraction and an exponent.",
        "is_text": "Expected a whole number without quotes.",
        "not_integer": "Expected a whole number.",
        "too_small": "Expected at least {least}.",
        "too_large": "Expected at most {most}.",
    }

    def __init__(self, *, least: int, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.least, self.most = least, most

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail(KINDS.get(type(data), "not_integer"))
        if data < self.least:
            self.fail("too_small", least=self.least)
        if data > self.most:
            self.fail("too_large", most=self.most)
        return data

    def to_representation(self, value: int) -> int:
        return value


class TextField(serializers.CharField):
    """A JSON text. DRF's field would make one of a number."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class IncrementSerializer(serializers.Serializer[Any]):
    points = StrictIntegerField(least=1, most=settings.MAX_POINTS)


class PageSerializer(serializers.Serializer[Any]):
    """Query parameters, where digits are all there is."""

    limit = serializers.RegexField(r"\A[0-9]{1,9}\Z", default="10", trim_whitespace=False)
    offset = serializers.RegexField(r"\A[0-9]{1,9}\Z", default="0", trim_whitespace=False)


class UsernameTaken(APIException):
    status_code = 409
    default_code = "username_taken"
    default_detail = "This username is taken."


class RegistrationSerializer(serializers.Serializer[Any]):
    username = TextField(max_length=150)
    password = TextField(max_length=1024, trim_whitespace=False)

    def validate_username(self, value: str) -> str:
        """Django's rule for usernames, and ours for user ids, since the one becomes the other."""
        model = get_user_model()
        value = model.normalize_username(value)
        try:
            for validator in model._meta.get_field("username").validators:
                validator(value)
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.messages, "invalid") from error
        if not is_user_id(value):
            raise serializers.ValidationError("This cannot be a user id.", "invalid")
        return value

    def validate(self, attrs: dict[str, str]) -> dict[str, str]:
        try:
            validate_password(attrs["password"], get_user_model()(username=attrs["username"]))
        except DjangoValidationError as error:
            raise serializers.ValidationError({"password": error.messages}, "too_weak") from error
        return attrs

    def create(self, validated_data: dict[str, str]) -> AbstractUser:
        try:
            with transaction.atomic():
                return get_user_model().objects.create_user(**validated_data)
        except IntegrityError as error:  # asking first would only find most of them
            raise UsernameTaken from error

"""The shapes of the HTTP API's input."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, transaction
from rest_framework import serializers
from rest_framework.exceptions import APIException

from scores.user_id import is_user_id


class TextField(serializers.CharField):
    """A JSON text. DRF's field would make one of a number."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


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
